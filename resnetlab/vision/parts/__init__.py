"""The built-in parts of image studies, one file each, which declares its settings and limits (`resnetlab.builtin`)."""
