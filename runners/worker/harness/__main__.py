"""Starts the harness: python -I <this folder>."""

from warpket_harness.loop import main

if __name__ == "__main__":
    main()
