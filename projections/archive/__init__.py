"""The log on disk: closed segments of it, and the log's own beginning trimmed once it is there."""
