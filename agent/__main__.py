"""`python -m agent` is the resident agent."""

from common.termination import end_when_told

if __name__ == "__main__":
    end_when_told()
    from agent.daemon import main

    raise SystemExit(main())
