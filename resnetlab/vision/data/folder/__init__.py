"""Trees of image files as they lie: `image_folder` is the reader, `found_images` what it finds, the rest how."""
