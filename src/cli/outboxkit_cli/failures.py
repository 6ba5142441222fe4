"""What ends a command in a way that its user can do something about."""


class CommandFailed(Exception):  # noqa: N818 (says what happened, as the other failures do)
    """The command could not do its work; its message is for the user and takes a traceback's place."""
