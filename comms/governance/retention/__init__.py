"""How long things are kept, and what keeps them longer: rules, holds, and the keeper who has the rest erased."""
