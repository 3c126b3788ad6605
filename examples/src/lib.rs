//! Nightshift's examples; see the files beside this package's manifest.
