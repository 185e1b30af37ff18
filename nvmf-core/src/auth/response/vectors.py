"""Makes the table in tests.rs."""
import base64, hashlib, hmac, zlib
HOST = "nqn.2014-08.org.nvmexpress:uuid:00000000-0000-4000-8000-000000000001"
SUBSYSTEM = "nqn.2024-01.example:disk"
HASHES = {1: "sha256", 2: "sha384", 3: "sha512"}
X = {1: (2048, 560316), 2: (3072, 2625351), 3: (4096, 5736041), 4: (6144, 15705020), 5: (8192, 10965728)}
def e(bits):
    t = 1 << bits + 64; s = 0; k = 0
    while t: s += t; k += 1; t //= k
    return s >> 64
def prime(group):
    b, x = X[group]
    return 2**b - 2**(b - 64) + (e(b - 130) + x) * 2**64 - 1
def secret(kind, first):
    key = bytes((first + 7 * i) % 256 for i in range({0: 32, 1: 32, 2: 48, 3: 64}[kind]))
    return key, "DHHC-1:%02d:%s:" % (kind, base64.b64encode(key + zlib.crc32(key).to_bytes(4, "little")).decode())
def key_of(kind, key, owner):
    return hmac.new(key, owner.encode() + b"NVMe-over-Fabrics", HASHES[kind]).digest() if kind else key
def respond(name, key, challenge, sequence, tid, label, owner, other, shared):
    if shared is not None:
        challenge = hmac.new(hashlib.new(name, shared).digest(), challenge, name).digest()
    text = challenge + sequence.to_bytes(4, "little") + tid.to_bytes(2, "little") + b"\0" + label + owner.encode() + b"\0" + other.encode()
    return hmac.new(key, text, name).hexdigest()
for kind in range(4):
    for hash_id, name in HASHES.items():
        for group in {0: [0] + [4] * (hash_id == 1), 1: [0, 1, 5], 2: [2 * (hash_id == 2)], 3: [3 * (hash_id == 3)]}[kind]:
            n = hashlib.new(name).digest_size
            c1, c2 = bytes(range(n)), bytes(range(100, 100 + n))
            hk, htext = secret(kind, 1); ck, ctext = secret(kind, 99)
            shared = None
            if group:
                p = prime(group); size = X[group][0] // 8
                length = {1: 32, 2: 40, 3: 48, 4: 48, 5: 56}[group]
                a = int.from_bytes(bytes([0x80 | 0x11] + [0x11] * (length - 1)), "big")
                b = int.from_bytes(bytes([0x80 | 0x22] + [0x22] * (length - 1)), "big")
                shared = pow(pow(2, b, p), a, p).to_bytes(size, "big")
            r1 = respond(name, key_of(kind, hk, HOST), c1, 0x11223344, 0x5566, b"HostHost", HOST, SUBSYSTEM, shared)
            r2 = respond(name, key_of(kind, ck, SUBSYSTEM), c2, 0x778899AA, 0x5566, b"Controller", SUBSYSTEM, HOST, shared)
            print(f'    ("{htext}", "{ctext}", {hash_id}, {group},\n        "{r1}",\n        "{r2}"),')
