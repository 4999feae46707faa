"""Where container runtimes look for CNI executables and configurations."""

from __future__ import annotations

#: for configurations, and for executables unless containerd is told otherwise
CONF_DIR, BIN_DIR = "/etc/cni/net.d", "/opt/cni/bin"
#: podman's others (containers.conf(5), cni_plugin_dirs); /usr/lib/cni is also that of Debian's containerd
BIN_DIRS = (BIN_DIR, "/usr/lib/cni", "/usr/libexec/cni", "/usr/local/lib/cni", "/usr/local/libexec/cni")
CONTAINERD = "/etc/containerd/config.toml"


def bin_dir_of_runtime() -> str:
    """Where containerd looks for CNI executables, as its configuration says; else where most runtimes do."""
    import tomllib

    try:
        with open(CONTAINERD, "rb") as file:
            plugins = tomllib.load(file).get("plugins", {})
    except (OSError, ValueError):
        return BIN_DIR
    sections = (one.get("cni", {}) for one in plugins.values() if isinstance(one, dict))
    found = (one.get("bin_dir") for one in sections if isinstance(one, dict))
    return next((one for one in found if isinstance(one, str) and one), BIN_DIR)


def bin_dirs() -> list[str]:
    """All of them, where an installation may be."""
    return sorted({*BIN_DIRS, bin_dir_of_runtime()})
