#!/usr/bin/python3
"""A client of a QMP monitor.

    qmp.py SOCKET COMMAND       sends the JSON command and prints the answer; status 1 if that is an error
    qmp.py SOCKET --hold        keeps the monitor until it is killed
"""

import json
import socket
import sys
import time


def main():
    path, command = sys.argv[1:]
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(60)
    connection.connect(path)
    stream = connection.makefile("rw")

    def ask(text):
        stream.write(text + "\n")
        stream.flush()
        while True:
            answer = json.loads(stream.readline())
            # Events come in between.
            if "event" not in answer:
                return answer

    stream.readline()
    ask('{"execute": "qmp_capabilities"}')
    if command == "--hold":
        print("held", flush=True)
        while True:
            time.sleep(1000)
    answer = ask(command)
    print(json.dumps(answer))
    sys.exit("error" in answer)


main()
