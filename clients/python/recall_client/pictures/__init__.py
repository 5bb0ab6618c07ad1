"""Pictures: the ones that a caller sends, and the ones that the server recalls."""

from recall_client.pictures.folders import class_folders
from recall_client.pictures.picture import Picture, PictureLike, Pictures
from recall_client.pictures.upload import Upload, batches, uploads

__all__ = ["Picture", "PictureLike", "Pictures", "Upload", "batches", "class_folders", "uploads"]
