"""Taking out of log, archive and views what people wrote, while the transitions stay."""
