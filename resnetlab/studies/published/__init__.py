"""Studies of published texts, which `resnetlab reproduce` reruns."""
