"""Networks: the paper's 3D U-Net and the kernel VAE. They import torch alone."""

from dwp_kedro.networks.kernel_vae import KernelVAE
from dwp_kedro.networks.unet import UNet3D

__all__ = ["KernelVAE", "UNet3D"]
