"""Files on the Hugging Face hub, or in its cache on this machine."""

import re
from pathlib import Path
from typing import Any

from sparsact._common.errors import MissingInputError
from sparsact._common.extras import require

NAME = re.compile(r"[\w.-]+/[\w.-]+(?:/[\w.-]+)*")
"""``owner/repository``, and possibly a directory or file in it."""


def fetched(
    name: str,
    revision: str | None,
    subfolder: str | None,
    files: list[str],
    *,
    what: str,
    extra: str,
) -> Path:
    """The place on this machine of a directory or file on the hub, downloaded if needed.

    Args:
        name: ``owner/repository``, or ``owner/repository/directory``.
        revision: branch, tag or commit.
        subfolder: directory in the repository.
        files: patterns of the files that are needed, relative to that directory.
        what: what they hold, for the messages.
        extra: the extra of sparsact that brings huggingface_hub.

    Raises:
        MissingInputError: there is no such repository, revision or directory; or the hub cannot
            be reached and the cache does not hold it; or it needs a login.
        ImportError: huggingface_hub is not installed.
    """
    hub: Any = require("huggingface_hub", extra)
    owner, repository, *inside = name.split("/")
    place = "/".join([*inside, *([subfolder] if subfolder else [])]).strip("/")
    prefix = f"{place}/" if place else ""
    wanted = [f"{prefix}{file}" for file in files] + ([place] if place else [])
    try:
        folder = Path(
            hub.snapshot_download(f"{owner}/{repository}", revision=revision, allow_patterns=wanted)
        )
    except (hub.errors.HfHubHTTPError, hub.errors.HFValidationError, OSError) as error:
        at = f" at revision {revision!r}" if revision else ""
        reason = str(error).strip().partition("\n")[0]
        raise MissingInputError(
            f"there is no {what} {name!r}{at}: no such directory or file, and the hub gave none "
            f"({reason})"
        ) from error
    if not (folder / place).exists():
        raise MissingInputError(
            f"{owner}/{repository} has no {place}, or no {what} there: name the directory of one "
            f"{what} as subfolder="
        )
    return folder / place
