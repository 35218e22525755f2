"""Errors that are the user's to mend: one line that names what is at fault and what to do."""


class UserError(Exception):
    """A mistake in what the user gave (file, key, value). The command line prints it as one line, without a traceback.

    Attributes:
        exit_code: process exit code; 2 is usage or config.
    """

    exit_code = 2


class ConfigError(UserError):
    """A configuration file or ``--set`` assignment that does not fit the schema."""


class DataError(UserError):
    """An input file (annotation, feature, video, score file, checkpoint) that cannot be used."""


class NothingToDoError(UserError):
    """A selection that is empty: no video in the subset, no file in the folder."""

    exit_code = 5


class DeviceError(UserError):
    """The device asked for is not there."""

    exit_code = 6
