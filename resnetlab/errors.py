"""The errors of resnetlab, each with the exit code that a user or a job scheduler gets.

| code | meaning                                             | class            |
|------|-----------------------------------------------------|------------------|
| 0    | done                                                |                  |
| 1    | trials failed: no result, or a comparison not made  | TrialsFailed     |
| 1    | a trial run again did not come out as recorded      | NotReproduced    |
| 1    | a tool did not take what was sent to it             | NotSent          |
| 2    | bad request: study, option or storage               | BadRequest       |
| 3    | bad data: absent, damaged or of another kind        | BadData          |
| 4    | results folder refused, full, or held by another    | FolderRefused    |
| 75   | try again: the cluster or the storage was lost      | ClusterLost, …   |
| 130  | interrupted                                         | Interrupted      |
"""


class ResnetlabError(Exception):
    """An error that a user can act on; commands print its message and exit with `exit_code`."""

    exit_code = 1


class TrialsFailed(ResnetlabError):
    exit_code = 1


class NotReproduced(ResnetlabError):
    exit_code = 1


class NotSent(ResnetlabError):
    exit_code = 1


class BadRequest(ResnetlabError):
    exit_code = 2


class BadData(ResnetlabError):
    exit_code = 3


class FolderRefused(ResnetlabError):
    exit_code = 4


class CannotWrite(FolderRefused, OSError):
    """The results folder cannot be written: a full disk, a quota, a file system that is gone."""


class ClusterLost(ResnetlabError):
    exit_code = 75


class DeviceLost(ResnetlabError):
    """A GPU failed under a trial. The trial goes on in another process; the sweep does not end."""


class StorageLost(CannotWrite):
    """The storage behind a URL has not answered for a long time."""

    exit_code = 75


class OtherData(BadData):
    """A node of the cluster has other data than the sweep."""


class NodeRefused(BadRequest):
    """A node of the cluster cannot be used: a trial there would give other results, or none."""


class Interrupted(ResnetlabError):
    exit_code = 130


class Stopped(Interrupted):
    """The sweep was asked to stop, and ended in order."""


# Errors that a worker may raise and other trials would meet too: the sweep ends, to be continued once they are fixed.
END_THE_SWEEP = {kind.__name__: kind for kind in (CannotWrite, StorageLost, OtherData, NodeRefused)}
