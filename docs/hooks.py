# Copyright 2026 The adaptanet_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""What `mkdocs` does beyond its own: the README as first page, links to code.

In the repository a page links to files beside it; a site has the pages alone.
"""

import pathlib
import re
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

_LINK = re.compile(r'(?<!!)\[([^\]]+)\]\(([^)#:]+)(#[^)]*)?\)')


def on_files(files: Files, config: MkDocsConfig) -> Files:
  """Adds the README, as a page among those that it links to."""
  readme = pathlib.Path(config.config_file_path).parent / 'README.md'
  text = readme.read_text(encoding='utf-8').replace('](docs/', '](')
  files.append(File.generated(config, 'index.md', content=text))
  return files


def on_page_markdown(
    markdown: str, page: Any, config: MkDocsConfig, files: Files
) -> str:
  """Makes plain names of links to what is no page."""
  del page, config

  def plain(link: re.Match[str]) -> str:
    known = files.get_file_from_path(link[2]) is not None
    return link[0] if known else link[1]

  return _LINK.sub(plain, markdown)
