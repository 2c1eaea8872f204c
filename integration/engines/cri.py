"""A client of the Container Runtime Interface: messages are dictionaries of field numbers, as in k8s.io/cri-api's
pkg/apis/runtime/v1/api.proto, so that neither a compiler nor generated code is needed."""
import grpc

from harness import Missing


def varint(number):
    number &= (1 << 64) - 1
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes(out) + bytes([number])


def encode(message):
    """Protocol buffers' wire format of {field number: value}; a list is a repeated field."""
    out = b""
    for field, value in message.items():
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, int):
                out += varint(field << 3) + varint(item)
                continue
            data = encode(item) if isinstance(item, dict) else item.encode() if isinstance(item, str) else item
            out += varint(field << 3 | 2) + varint(len(data)) + data
    return out


def decode(data):
    """{field number: [values]}: numbers, and bytes for everything else."""
    at, out = 0, {}

    def number():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(data):
        tag = number()
        if tag & 7 == 0:
            value = number()
        else:
            size = {1: 8, 5: 4}.get(tag & 7) or number()
            value = data[at:at + size]
            at += size
        out.setdefault(tag >> 3, []).append(value)
    return out


class Service:
    """runtime.v1.RuntimeService on a unix socket."""

    def __init__(self, socket):
        self.channel = grpc.insecure_channel(f"unix://{socket}")

    def __call__(self, method, message=None, timeout=60):
        call = self.channel.unary_unary(f"/runtime.v1.RuntimeService/{method}", request_serializer=encode,
                                        response_deserializer=decode)
        try:
            return call(message or {}, timeout=timeout)
        except grpc.RpcError as error:
            raise Missing(f"{method}: {error.code().name}: {error.details()}") from error
