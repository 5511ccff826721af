"""Memory that the machine has ready."""

from pathlib import Path

PIECE = b"x" * (1 << 20)


def touch(directory: Path, size: int) -> None:
    """Has this much memory backed by the host before a load writes as much into the page cache.

    A virtual machine gives unused memory back to its host. The first write to such a page waits for the host to give one,
    which has been seen to cost 2 s of processor time per GiB, in the account of whichever broker met it. A file that was
    written and removed leaves its pages behind, ready.
    """
    path = directory / "touched"
    with path.open("wb", buffering=0) as file:
        for _ in range(0, size, len(PIECE)):
            file.write(PIECE)
    path.unlink()
