"""Deep Weight Prior transfer for few-shot 3D medical segmentation."""

__version__ = "0.1.0"
