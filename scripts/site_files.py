"""A hook of MkDocs (`mkdocs.yml`): files of the repository that pages link to are part of the site, below `files/`.

On GitHub such a link, like `../../deploy/nginx.conf`, leads to the file itself. Markdown is served as text.
"""

import re
from pathlib import Path
from posixpath import normpath, relpath
from typing import Any, Final

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT: Final = Path(__file__).parents[1]
LINK: Final = re.compile(r"\]\(((?:\.\./)+[^)#\s]+)\)")


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files, **_: Any) -> str:
    """Let links to files outside of `docs/` lead to their copies in the site, and add the copies."""

    def copied(link: re.Match[str]) -> str:
        target = normpath(f"docs/{page.file.src_uri}/../{link[1]}")
        if target.startswith("docs/"):
            return link[0]
        name = f"files/{target}.txt" if target.endswith(".md") else f"files/{target}"
        if files.get_file_from_path(name) is None:
            files.append(File.generated(config, name, content=(ROOT / target).read_bytes()))
        return f"]({relpath(name, str(Path(page.file.src_uri).parent))})"

    return LINK.sub(copied, markdown)
