"""The index of the package's models, and how mmpretrain's model hub comes to know them."""
