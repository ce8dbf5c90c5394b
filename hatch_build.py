"""Compiles the kernels in csrc/ when the package is built or installed from source.

Without a C++ compiler the package is built without kernels; plain torch then runs in their place,
and sparsact says so when it would have used one.
"""

import subprocess
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

KERNELS = Path("src/sparsact/kernels/cpu")


class Kernels(BuildHookInterface):
    """Run CMake; the libraries join the wheel, which then is for this kind of machine."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile into the source tree, where an editable installation finds the libraries."""
        if self.target_name != "wheel":
            return
        root = Path(self.root)
        build = root / "build" / f"kernels-{sysconfig.get_platform()}"
        configure = ["cmake", "-S", root / "csrc", "-B", build]
        try:
            subprocess.run([*configure, f"-DKERNELS_DIRECTORY={root / KERNELS}"], check=True)
            subprocess.run(["cmake", "--build", build, "--parallel"], check=True)
        except (OSError, subprocess.CalledProcessError) as problem:
            self.app.display_warning(f"sparsact is built without compiled kernels: {problem}")
            return
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{platform}"
        build_data["artifacts"].append(f"{KERNELS}/*.so")
