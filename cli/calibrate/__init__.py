"""`respool calibrate`: how many jobs at once an inference server is good for, by measurement."""
