"""What may happen to a file in the artifact store."""

from upath import UPath

DAMAGES = ("flip a bit", "truncate", "delete")


def do_damage(file: UPath, damage: str) -> None:
    """Flip a bit in the middle of a file, cut its second half off, or delete it."""
    content = bytearray(file.read_bytes())
    middle = len(content) // 2
    if damage == "flip a bit":
        content[middle] ^= 1
        file.write_bytes(bytes(content))
    elif damage == "truncate":
        file.write_bytes(bytes(content[:middle]))
    else:
        file.unlink()


def files_below(uri: str) -> list[UPath]:
    """Return every file of a folder in the artifact store, in order of their names."""
    folder = UPath(uri)
    return [folder.with_segments(path) for path in sorted(folder.fs.find(folder.path))]
