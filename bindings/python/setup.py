"""Builds the wheel: the layer, and _rukun.so, which has librukun inside.

The extension is what CMake made: RUKUN_EXTENSION names the file, as CMake's target
rukun_wheel does; without it the source tree around this file is built first."""

import os
import pathlib
import re
import shutil
import subprocess
import sys

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent


def version() -> str:
    if "RUKUN_PACKAGE_VERSION" in os.environ:
        return os.environ["RUKUN_PACKAGE_VERSION"]
    text = (ROOT / "CMakeLists.txt").read_text()
    return re.search(r"project\(rukun VERSION ([\d.]+)", text).group(1)


class BuildByCMake(build_ext):
    def build_extension(self, extension: Extension) -> None:
        built = os.environ.get("RUKUN_EXTENSION") or self.build_tree()
        target = pathlib.Path(self.get_ext_fullpath(extension.name))
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(built, target)

    def build_tree(self) -> str:
        folder = pathlib.Path(self.build_temp).resolve() / "cmake"
        subprocess.run(["cmake", "-S", ROOT, "-B", folder, "-DRK_TESTS=OFF",
                        f"-DPython3_EXECUTABLE={sys.executable}"], check=True)
        subprocess.run(["cmake", "--build", folder, "--target", "rukun_python"], check=True)
        return str(folder / "bindings/python/rukun/_rukun.so")


setup(
    version=version(),
    packages=["rukun"],
    package_data={"rukun": ["py.typed", "_rukun.pyi"]},
    ext_modules=[Extension("rukun._rukun", sources=[])],
    cmdclass={"build_ext": BuildByCMake},
)
