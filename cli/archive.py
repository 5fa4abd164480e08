"""Where the log's archive lies, as the settings say it."""

from core.settings import Settings, SettingsError
from projections.archive.files import Directory, files_at
from projections.archive.reader import SegmentArchive


def archive_of(settings: Settings) -> SegmentArchive | None:
    """The archive; None if there is to be none, and so nothing is trimmed. Raises SettingsError.

    The store that `respool up` brings has one beside it. That of a REDIS_URL has none unless one is named: a
    directory of this machine would be missing on every other.
    """
    if settings.archive_url is not None:
        try:
            return SegmentArchive(files_at(settings.archive_url))
        except ValueError as error:
            raise SettingsError(f"ARCHIVE_URL={settings.archive_url!r}: {error}") from error
    if settings.redis_url is None:
        return SegmentArchive(Directory(settings.respool_data_dir.resolve() / "archive"))
    return None
