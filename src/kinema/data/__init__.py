"""From frames to clips: sampling, transforms, augmentation, loading."""
