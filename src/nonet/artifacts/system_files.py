"""Files that operating systems, storage and programs leave in folders; they are neither images nor user files."""

import fnmatch
import re

#: Patterns of lower-case names: macOS, Windows, Linux, network storage, synchronisation and development tools.
LEFTOVERS = (
    *("__macosx", ".ds_store", "._*", ".appledouble", ".appledb", ".appledesktop", ".apdisk", ".localized", "icon\r"),
    *(".spotlight-v100", ".trashes", ".fseventsd", ".temporaryitems", ".documentrevisions-v100", ".volumeicon.icns"),
    *("network trash folder", "temporary items"),
    *("thumbs.db", "thumbs.db:encryptable", "ehthumbs*.db", "desktop.ini", "autorun.inf", "*.lnk", "*:zone.identifier"),
    *("$recycle.bin", "recycler", "recycled", "system volume information", "found.[0-9][0-9][0-9]", "~$*"),
    *("lost+found", ".trash", ".trash-*", ".nfs*", ".fuse_hidden*", ".directory", ".thumbnails", ".gvfs"),
    *("@eadir", "@tmp", "@sharebin", "#recycle", "#snapshot", "*@synoeastream", "*@synoresource", "@recycle"),
    *(".@__thumb", "@recently-snapshot", ".snapshot", ".snapshots", ".zfs", ".snap"),
    *(".dropbox", ".dropbox.*", ".sync", ".stfolder", ".stversions", ".syncthing*", "sync.ffs_db", ".owncloudsync*"),
    *(".ipynb_checkpoints", "__pycache__", ".git", ".gitignore", ".gitattributes", ".gitkeep", ".svn", ".hg", ".dvc"),
    *(".dvcignore", ".idea", ".vscode", ".nomedia", ".picasa.ini", "picasa.ini", "*.part", "*.crdownload", "*~"),
)
_ANY = re.compile("|".join(fnmatch.translate(pattern) for pattern in LEFTOVERS))


def is_leftover(name: str) -> bool:
    """Return whether a file or folder of this name was left by a system, a storage device or a program."""
    return _ANY.match(name.lower()) is not None
