"""recall-trainer export, import and plot: bundles from and to the files of others."""
