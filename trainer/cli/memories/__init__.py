"""recall-trainer quickstart and add-class, and memories of features: what makes a memory or adds to one."""
