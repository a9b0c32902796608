"""Where steps are placed without a solver: construction, descent, guesses, drafts."""
