"""How long a guest says nothing at most, in seconds: gap.py CONSOLE SECONDS."""
import sys
import time

console, seconds = open(sys.argv[1], "rb"), float(sys.argv[2])
console.seek(0, 2)
last = time.monotonic()
end, longest = last + seconds, 0.0
while time.monotonic() < end:
    said, now = console.read(), time.monotonic()
    if said:
        longest, last = max(longest, now - last), now
    else:
        time.sleep(0.005)
print("%.3f" % longest)
