"""Writing files so that a kill never leaves half of one under its final name."""

import os
from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend

BACKEND = 'mmvitlin.atomic'  # as in CheckpointHook(backend_args=dict(backend='mmvitlin.atomic'))


@register_backend(BACKEND, force=True)
class AtomicLocalBackend(LocalBackend):
    """MMEngine's backend for local files, writing beside the file and renaming at the end.

    A write that is cut off leaves the old file as it was and a `.partial` one beside it, which the
    next write of the same name replaces.
    """

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write `obj` to `filepath`, creating its folder if need be."""
        path = Path(filepath)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f'{path.name}.partial')
        try:
            with partial.open('wb') as file:
                file.write(obj)
                file.flush()
                os.fsync(file.fileno())  # or the name could outlive the bytes in a power cut
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        partial.replace(path)

    def put_text(self, obj: str, filepath: str | Path, encoding: str = 'utf-8') -> None:
        """Write `obj` to `filepath`, creating its folder if need be."""
        self.put(obj.encode(encoding), filepath)
