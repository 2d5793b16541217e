"""The tests of the configuration see each of these faults in what wins and what stays in force."""

from __future__ import annotations

from pathlib import Path

import pytest

from mutants import Mutant, kept_list

pytestmark = pytest.mark.slow

HERE = Path(__file__).resolve().parent
FILES_TESTS = [HERE / "test_loader.py", HERE / "test_environment.py"]
JUDGES = {
    "config.loader": FILES_TESTS,
    "config.file_reader": FILES_TESTS,
    "config.environment": [HERE / "test_environment.py"],
    "config.changes": [HERE / "test_changes.py"],
    "config.in_force": [HERE / "test_in_force.py"],
    "reloading": [HERE.parent / "test_reloading.py"],
}


def _mutant(name: str, module: str, old: str, new: str) -> Mutant:
    return Mutant(name, f"supereziod.{module}", old, new)


MUTANTS = (
    _mutant(
        "has files win over the environment",
        "config.loader",
        "        settings += read_variables(self.variables, problems)\n",
        "        settings[:0] = read_variables(self.variables, problems)\n",
    ),
    _mutant(
        "has the environment win over options",
        "config.loader",
        "        settings += read_variables(self.variables, problems)\n"
        "        settings += self.options\n",
        "        settings += self.options\n"
        "        settings += read_variables(self.variables, problems)\n",
    ),
    _mutant("forgets options", "config.loader", "        settings += self.options\n", ""),
    _mutant(
        "has the file win over conf.d",
        "config.loader",
        "files += [file for file in there if _is_drop_in(file)]",
        "files = [*(file for file in there if _is_drop_in(file)), *files]",
    ),
    _mutant(
        "reads conf.d in the order of the directory, backwards",
        "config.loader",
        "sorted(drop_ins.iterdir())",
        "sorted(drop_ins.iterdir(), reverse=True)",
    ),
    _mutant(
        "reads no conf.d where there is no file",
        "config.loader",
        "file for file in there if _is_drop_in(file)]",
        "file for file in there if files and _is_drop_in(file)]",
    ),
    _mutant(
        "takes a conf.d that cannot be read for none",
        "config.loader",
        "            problems.append(_problem(drop_ins, f",
        "            list[Problem]().append(_problem(drop_ins, f",
    ),
    _mutant(
        "reads what an editor has left beside a drop-in",
        "config.loader",
        ' and not file.name.startswith(".")',
        "",
    ),
    _mutant(
        "starts with a file whose name nobody can be told",
        "config.loader",
        "    if not is_utf8(str(file)):\n",
        "    if False:\n",
    ),
    _mutant(
        "uses what is good of a bad configuration",
        "config.loader",
        "        if problems:\n            # Whether",
        "        if False:\n            # Whether",
    ),
    _mutant(
        "uses a section that contradicts itself",
        "config.loader",
        "        if self._problems:\n            raise ConfigError(self._problems)\n",
        "",
    ),
    _mutant(
        "replaces a whole section by a later file's",
        "config.loader",
        "        tree = tree.setdefault(key, {})\n",
        "        tree[key] = tree = {}\n",
    ),
    _mutant(
        "has one GPU forget what is common",
        "config.loader",
        "asdict(common) | own",
        "own",
    ),
    _mutant(
        "blames what was set first",
        "config.loader",
        "if each.path[: len(path)] == path][-1]",
        "if each.path[: len(path)] == path][0]",
    ),
    _mutant(
        "overlooks keys that it does not know",
        "config.file_reader",
        "                self._add((*path, key), unknown_key(path, key, value, section))\n",
        "",
    ),
    _mutant(
        "tells no lines",
        "config.file_reader",
        "line=self._lines.get(path))",
        "line=None)",
    ),
    _mutant(
        "overlooks a file that is no TOML",
        "config.file_reader",
        "            self.problems.append(Problem(origin=origin, key=",
        "            list[Problem]().append(Problem(origin=origin, key=",
    ),
    _mutant(
        "overlooks variables that it does not know",
        "config.environment",
        "            problems.append(Problem(origin=origin, key=error.key, message=str(error)))\n",
        "            del error\n",
    ),
    _mutant(
        "takes options in the environment for keys",
        "config.environment",
        'PREFIX: Final = "SUPEREZIO__"',
        'PREFIX: Final = "SUPEREZIO_"',
    ),
    _mutant(
        "takes text that looks like a number for one",
        "config.environment",
        "if _takes_text(type_) and not isinstance(value, str):",
        "if False:",
    ),
    _mutant(
        "reads more than a value",
        "config.environment",
        'return table["value"] if len(table) == 1 else text',
        'return table["value"]',
    ),
    _mutant(
        "applies what needs a restart",
        "config.changes",
        "restart=[key for key in changed if key not in live]",
        "restart=[]",
    ),
    _mutant(
        "takes a longer key for a live one",
        "config.changes",
        'key.startswith(rule) if rule.endswith(".") else key == rule',
        "key.startswith(rule)",
    ),
    _mutant(
        "tells of nobody's keys",
        "config.in_force",
        "(everything or each.origin is not None or each.path == part or each.path in set_since)",
        "True",
    ),
    _mutant(
        "forgets what is gone from the files",
        "config.in_force",
        "[each for path, each in old.items() if _differs(each, new.get(path))]",
        "[each for path, each in old.items() if path in new and _differs(each, new.get(path))]",
    ),
    _mutant(
        "is without a configuration after a bad reload",
        "reloading",
        "        loaded, doubted = await asyncio.to_thread(self._read)\n",
        "        self._in_force = self._started_with\n"
        "        loaded, doubted = await asyncio.to_thread(self._read)\n",
    ),
    _mutant(
        "says that it was read though it was bad",
        "reloading",
        "        loaded, doubted = await asyncio.to_thread(self._read)\n",
        "        self._read_at = self._now()\n"
        "        loaded, doubted = await asyncio.to_thread(self._read)\n",
    ),
    _mutant(
        "does not apply what it says is in force",
        "reloading",
        "        await self._apply(loaded.config)\n",
        "",
    ),
    _mutant(
        "has in force what could not be applied",
        "reloading",
        "        await self._apply(loaded.config)\n        self._in_force = loaded\n",
        "        self._in_force = loaded\n        await self._apply(loaded.config)\n",
    ),
    _mutant(
        "forgets a bad reload",
        "reloading",
        "        self.fault = fault\n",
        "",
    ),
    _mutant(
        "stays at fault after a good reload",
        "reloading",
        "        self.fault = None\n        return self._tell",
        "        return self._tell",
    ),
    _mutant(
        "forgets that a restart is pending",
        "reloading",
        "diff(self._started_with.config, self._in_force.config).restart",
        "diff(self._in_force.config, self._in_force.config).restart",
    ),
    _mutant(
        "asks the host on the loop",
        "reloading",
        "loaded, doubted = await asyncio.to_thread(self._read)",
        "loaded, doubted = self._read()",
    ),
)


def _tests_of(mutant: Mutant) -> list[Path]:
    return JUDGES[mutant.module.removeprefix("supereziod.")]


mutants, test_passes, test_the_suite_kills_one_that = kept_list(MUTANTS, tests=_tests_of)
