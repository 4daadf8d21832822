"""Videos as folders of images in the layouts of older tools, for their training code."""
