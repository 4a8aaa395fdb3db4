"""`python -m bundles`: the verifier alone, as on an auditor's laptop."""

from bundles.cli import main

if __name__ == "__main__":
    main()
