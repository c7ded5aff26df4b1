"""Starts the harness: python -I <this folder> [nest]."""

import sys

if __name__ == "__main__":
    if sys.argv[1:] == ["nest"]:
        from warpket_harness.nest import main
    else:
        from warpket_harness.loop import main
    main()
