/* Preloaded into a Redis: writes down which bytes of which file are on disk for sure, and can be slow.
 *
 * FSYNC_LEDGER    the file that gets one line "SIZE PATH" for each sync that succeeded. SIZE is that of
 *                 the file when the sync began: what was written meanwhile may not be covered.
 * FSYNC_DELAY_MS  how much longer a sync takes, as on a disk that is busy.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static int synced(const char *name, int fd) {
    int (*really)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    const char *ledger = getenv("FSYNC_LEDGER"), *delay = getenv("FSYNC_DELAY_MS");
    char link[64], path[4096], line[4200];
    struct stat before;
    int is_known = fstat(fd, &before) == 0;

    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (delay) {
        long ms = atol(delay);
        struct timespec pause = {ms / 1000, ms % 1000 * 1000000};
        nanosleep(&pause, NULL);
    }
    int result = really(fd);
    if (result == 0 && ledger && is_known && length > 0) {
        path[length] = 0;
        int written = snprintf(line, sizeof line, "%lld %s\n", (long long)before.st_size, path);
        int out = open(ledger, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        if (out < 0 || write(out, line, written) != written) abort();
        close(out);
    }
    return result;
}

int fsync(int fd) { return synced("fsync", fd); }
int fdatasync(int fd) { return synced("fdatasync", fd); }
