"""What can go wrong, by the exit code a person or a job scheduler sees.

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
    """An ending with a cause a person can act on; scripts print its text and leave with `exit_code`."""

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
    """The results folder takes no more: a full disk, a quota, a file system that is gone."""


class ClusterLost(ResnetlabError):
    exit_code = 75


class StorageLost(CannotWrite):
    """What lies behind a URL has not answered for long."""

    exit_code = 75


class OtherData(BadData):
    """A node of the cluster sees other data than the sweep was begun with."""


class NodeRefused(BadRequest):
    """A node of the cluster is not fit: a trial there would give other results, or none."""


class Interrupted(ResnetlabError):
    exit_code = 130


# What a worker may find that no other trial would fare better with: the sweep ends, and is continued once it is mended.
END_THE_SWEEP = {kind.__name__: kind for kind in (CannotWrite, StorageLost, OtherData, NodeRefused)}
