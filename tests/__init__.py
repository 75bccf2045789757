"""Everything that is checked about the service, in three rings by speed."""
