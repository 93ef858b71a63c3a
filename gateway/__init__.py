"""
txgateway: one gateway, many doors. Bytes reach places they otherwise could not.

The package has four floors, and imports only point down:

  - L{gateway.service}: assembly: options, configuration, the doors wired to decisions and destinations;
  - L{gateway.domain}: decisions: who is it, may they, how much;
  - L{gateway.net}: Twisted transports and protocols, which know no users and no policy;
  - L{gateway.wire}: bytes to values and back, without Twisted, clock, logging or I/O.

Beside them stands L{gateway.testing}, the fakes that we test with and ship.
"""

__all__ = ["__version__"]

__version__ = "0.1.0"
