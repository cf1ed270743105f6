//! Permissions of output files.

use std::{fs::Permissions, os::unix::fs::PermissionsExt};

use tempfile::Builder;

/// What the user's umask leaves, where temporary files are for their owner alone.
pub(super) fn with_usual_permissions<'a, 'b, 'c>(
    builder: &'c mut Builder<'a, 'b>,
) -> &'c mut Builder<'a, 'b> {
    builder.permissions(Permissions::from_mode(0o666))
}
