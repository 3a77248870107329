"""The conf/ folders of packages that extend facedistill, in Hydra's search path."""

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin


class ExtensionsSearchPath(SearchPathPlugin):  # type: ignore[misc, unused-ignore]
    """Adds what installed packages declare as entry points of the group ``facedistill.conf``."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Append them: a choice of ours can't be replaced."""
        from facedistill.config.choices import CONFIG_DIR, config_dirs  # late: see launcher.py

        for folder in config_dirs():
            if folder != CONFIG_DIR:
                search_path.append("facedistill", f"file://{folder}")
