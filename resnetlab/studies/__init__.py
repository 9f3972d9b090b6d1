"""The studies that come with the package, one YAML file each; `study.included` finds them."""
