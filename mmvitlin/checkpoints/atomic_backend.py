"""MMEngine's backend for local files, with atomic writes."""

from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend

from mmvitlin.checkpoints.atomic_write import atomic_write

BACKEND = 'mmvitlin.atomic'  # as in CheckpointHook(backend_args=dict(backend='mmvitlin.atomic'))


@register_backend(BACKEND, force=True)
class AtomicLocalBackend(LocalBackend):
    """MMEngine's backend for local files, writing by `atomic_write`."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write `obj` to `filepath`, creating its folder if need be."""
        with atomic_write(filepath) as partial:
            partial.write_bytes(obj)

    def put_text(self, obj: str, filepath: str | Path, encoding: str = 'utf-8') -> None:
        """Write `obj` to `filepath`, creating its folder if need be.

        Under an ASCII locale Python reads paths with surrogates in the place of other bytes; text
        that holds such a path is written as those bytes.
        """
        self.put(obj.encode(encoding, errors='surrogateescape'), filepath)
