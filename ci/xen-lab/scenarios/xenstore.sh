# The xenstore client's tests on a real xenstored.
try "$here/xenstore-tests" --ignored
