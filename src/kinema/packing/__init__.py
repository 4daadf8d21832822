"""RGB stores of many videos: one job per video, on all cores, resumed and verified."""
