#!/usr/bin/env python3
"""Sums what GoogleTest and ctest left in a directory and prints `N passed, N failed`.

ctest.junit has one entry for each test program; GoogleTest wrote one XML file for each program that
ran to its end. A program that failed without a failed case in its file (a crash, a time limit)
counts as one failure. Exit 1 if anything failed or nothing ran.

usage: count_tests.py DIRECTORY
"""
import pathlib
import sys
import xml.etree.ElementTree as ElementTree


def main():
    directory = pathlib.Path(sys.argv[1])
    passed = failed = skipped = 0
    failing = set()  # programs with a failed case of their own
    for path in sorted(directory.glob("*.xml")):
        for case in ElementTree.parse(path).iter("testcase"):
            if case.get("status") == "notrun" or case.get("result") == "suppressed":
                continue
            if case.find("failure") is not None:
                failed += 1
                failing.add(path.stem)
                print(f"failed: {path.stem}: {case.get('classname')}.{case.get('name')}")
            elif case.find("skipped") is not None or case.get("result") == "skipped":
                skipped += 1
            else:
                passed += 1
    junit = directory / "ctest.junit"
    programs = list(ElementTree.parse(junit).iter("testcase")) if junit.exists() else []
    for program in programs:
        if program.get("status") != "run" and program.get("name") not in failing:
            failed += 1
            print(f"failed: {program.get('name')} did not run to its end")
    if not programs:
        failed += 1
        print(f"failed: no results of ctest in {directory}")
    if skipped:
        print(f"{skipped} skipped")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
