// The codecs kafkajs leaves to its user, by packages that need no compiler.
'use strict'

const { ZstdCodec } = require('zstd-codec')
const lz4 = require('lz4js')
const xxh32 = require('lz4js/xxh32')
const snappy = require('snappyjs')

// Java's producers frame Snappy as xerial does: this magic, two versions, then blocks with their lengths.
const XERIAL = Buffer.from([0x82, 0x53, 0x4e, 0x41, 0x50, 0x50, 0x59, 0])
const XERIAL_HEADER_BYTES = 16

function snappyDecompress(data) {
  if (!data.subarray(0, XERIAL.length).equals(XERIAL)) return Buffer.from(snappy.uncompress(data))
  const blocks = []
  for (let at = XERIAL_HEADER_BYTES; at < data.length;) {
    const size = data.readInt32BE(at)
    at += 4
    blocks.push(Buffer.from(snappy.uncompress(data.subarray(at, at + size))))
    at += size
  }
  return Buffer.concat(blocks)
}

// lz4js lets blocks depend on each other, which Apache Kafka refuses; its blocks alone are well.
const LZ4_MAGIC = Buffer.from([0x04, 0x22, 0x4d, 0x18])
const LZ4_BLOCK_BYTES = 64 * 1024
const LZ4_INDEPENDENT_BLOCKS = Buffer.from([0x60, 0x40])
const LZ4_STORED = 0x80000000

function lz4Compress(data) {
  const check = (xxh32.hash(0, LZ4_INDEPENDENT_BLOCKS, 0, LZ4_INDEPENDENT_BLOCKS.length) >>> 8) & 0xff
  const parts = [LZ4_MAGIC, LZ4_INDEPENDENT_BLOCKS, Buffer.from([check])]
  for (let at = 0; at < data.length; at += LZ4_BLOCK_BYTES) {
    const block = data.subarray(at, at + LZ4_BLOCK_BYTES)
    const packed = new Uint8Array(lz4.compressBound(block.length))
    const size = lz4.compressBlock(block, packed, 0, block.length, new Uint32Array(1 << 16))
    const smaller = size > 0 && size < block.length
    const head = Buffer.alloc(4)
    head.writeUInt32LE(smaller ? size : (block.length | LZ4_STORED) >>> 0)
    parts.push(head, smaller ? Buffer.from(packed.subarray(0, size)) : block)
  }
  return Buffer.concat([...parts, Buffer.alloc(4)])
}

// lz4js looks for a block's checksum before the block, and does not find those of aiokafka; its blocks alone are well.
const LZ4_BLOCK_CHECKSUMS = 0x10
const LZ4_CONTENT_SIZE = 0x08

function lz4Decompress(data) {
  if (!data.subarray(0, LZ4_MAGIC.length).equals(LZ4_MAGIC)) throw new Error('not a frame of LZ4')
  const checksum = data[4] & LZ4_BLOCK_CHECKSUMS ? 4 : 0
  // 64 KiB for 4, and four times as much for each that follows.
  const blockBytes = 1 << (2 * ((data[5] >> 4) & 7) + 8)
  const start = data[4] & LZ4_CONTENT_SIZE ? 15 : 7
  const blocks = []
  let bytes = 0
  for (let at = start, head; (head = data.readUInt32LE(at)) !== 0;) {
    const block = { at: at + 4, length: head & ~LZ4_STORED, stored: (head & LZ4_STORED) !== 0 }
    blocks.push(block)
    bytes += block.stored ? block.length : blockBytes
    at = block.at + block.length + checksum
  }
  // One buffer: a block may repeat what is in those before it.
  const found = Buffer.alloc(bytes)
  let end = 0
  for (const { at, length, stored } of blocks) {
    if (stored) end += data.copy(found, end, at, at + length)
    else end = lz4.decompressBlock(data, found, at, length, end)
  }
  return found.subarray(0, end)
}

const zstd = new Promise((resolve) => ZstdCodec.run((found) => resolve(new found.Streaming())))

exports.codecs = (types) => ({
  [types.Snappy]: () => ({
    compress: async ({ buffer }) => Buffer.from(snappy.compress(buffer)),
    decompress: async (data) => snappyDecompress(data),
  }),
  [types.LZ4]: () => ({
    compress: async ({ buffer }) => lz4Compress(buffer),
    decompress: async (data) => lz4Decompress(data),
  }),
  [types.ZSTD]: () => ({
    compress: async ({ buffer }) => Buffer.from((await zstd).compress(buffer)),
    decompress: async (data) => Buffer.from((await zstd).decompress(data)),
  }),
})
