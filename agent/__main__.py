"""`python -m agent` is the resident agent."""

from agent.daemon import main

if __name__ == "__main__":
    raise SystemExit(main())
