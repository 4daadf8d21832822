"""Networks: modalities, backbones, consensus heads."""
