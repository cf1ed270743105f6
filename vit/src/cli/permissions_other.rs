//! Permissions of output files, which are as usual where there is no umask.

use tempfile::Builder;

pub(super) fn with_usual_permissions<'a, 'b, 'c>(
    builder: &'c mut Builder<'a, 'b>,
) -> &'c mut Builder<'a, 'b> {
    builder
}
