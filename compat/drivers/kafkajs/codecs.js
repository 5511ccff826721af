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
const LZ4_BLOCK_BYTES = 64 * 1024
const LZ4_INDEPENDENT_BLOCKS = Buffer.from([0x60, 0x40])
const LZ4_STORED = 0x80000000

function lz4Compress(data) {
  const check = (xxh32.hash(0, LZ4_INDEPENDENT_BLOCKS, 0, LZ4_INDEPENDENT_BLOCKS.length) >>> 8) & 0xff
  const parts = [Buffer.from([0x04, 0x22, 0x4d, 0x18]), LZ4_INDEPENDENT_BLOCKS, Buffer.from([check])]
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

const zstd = new Promise((resolve) => ZstdCodec.run((found) => resolve(new found.Streaming())))

exports.codecs = (types) => ({
  [types.Snappy]: () => ({
    compress: async ({ buffer }) => Buffer.from(snappy.compress(buffer)),
    decompress: async (data) => snappyDecompress(data),
  }),
  [types.LZ4]: () => ({
    compress: async ({ buffer }) => lz4Compress(buffer),
    decompress: async (data) => Buffer.from(lz4.decompress(data)),
  }),
  [types.ZSTD]: () => ({
    compress: async ({ buffer }) => Buffer.from((await zstd).compress(buffer)),
    decompress: async (data) => Buffer.from((await zstd).decompress(data)),
  }),
})
