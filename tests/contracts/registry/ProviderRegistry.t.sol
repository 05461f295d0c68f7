// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {IProviderRegistry} from "../../../contracts/interfaces/IProviderRegistry.sol";
import {ProviderRegistry} from "../../../contracts/registry/ProviderRegistry.sol";
import {Messages} from "../utils/Messages.sol";

contract ProviderRegistryTest is Messages {
    ProviderRegistry internal registry;
    address internal provider = makeAddr("provider");
    address internal key;
    uint256 internal secret;

    uint256 private constant ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141;

    function setUp() public {
        registry = new ProviderRegistry();
        (key, secret) = makeAddrAndKey("duty key");
        vm.warp(1_700_000_000);
    }

    function _digest(address who, address dutyKey) internal view returns (bytes32) {
        return typedDigest(address(registry), keccak256(abi.encode(DUTY_KEY_PROOF_TYPEHASH, who, dutyKey)));
    }

    function _proof(uint256 signer, address who, address dutyKey) internal view returns (bytes memory) {
        return sign(signer, _digest(who, dutyKey));
    }

    function _register() internal {
        bytes memory proof = _proof(secret, provider, key);
        vm.prank(provider);
        registry.register(key, proof);
    }

    // ---------------------------------------------------------------------------------------------- register

    function test_A_provider_registers_with_its_duty_key() public {
        assertFalse(registry.isProvider(provider));
        assertEq(registry.dutyKey(provider), address(0));
        bytes memory proof = _proof(secret, provider, key);

        vm.expectEmit(address(registry));
        emit IProviderRegistry.DutyKeyChanged(provider, key, uint48(block.timestamp));
        vm.prank(provider);
        registry.register(key, proof);

        assertTrue(registry.isProvider(provider));
        assertEq(registry.dutyKey(provider), key);
        assertEq(registry.dutyKeyAt(provider, uint48(block.timestamp)), key);
        assertEq(registry.dutyKeyAt(provider, uint48(block.timestamp) - 1), address(0));
        assertEq(registry.providerOfDutyKey(key), provider);
        assertEq(registry.dutyKeyCount(provider), 1);
        (address first, uint48 since) = registry.dutyKeyEntry(provider, 0);
        assertEq(first, key);
        assertEq(since, block.timestamp);
    }

    function test_A_provider_registers_once() public {
        _register();
        bytes memory proof = _proof(secret, provider, key);
        vm.expectRevert(abi.encodeWithSelector(IProviderRegistry.ProviderExists.selector, provider));
        vm.prank(provider);
        registry.register(key, proof);
    }

    function test_The_zero_key_is_refused() public {
        vm.expectRevert(
            abi.encodeWithSelector(IProviderRegistry.DutyKeyTaken.selector, address(0), address(0))
        );
        registry.register(address(0), new bytes(65));
    }

    function test_A_duty_key_of_another_provider_is_refused_even_with_its_consent() public {
        _register();
        address other = makeAddr("other");
        bytes memory proof = _proof(secret, other, key);
        vm.expectRevert(abi.encodeWithSelector(IProviderRegistry.DutyKeyTaken.selector, key, provider));
        vm.prank(other);
        registry.register(key, proof);
    }

    function test_A_proof_seen_in_the_mempool_is_of_no_use_to_another_account() public {
        bytes memory proof = _proof(secret, provider, key);
        address thief = makeAddr("thief");
        bytes32 r = bytes32(proof);
        bytes32 s;
        assembly {
            s := mload(add(proof, 0x40))
        }
        address recovered = ecrecover(_digest(thief, key), uint8(proof[64]), r, s);
        vm.expectRevert(abi.encodeWithSelector(IProviderRegistry.BadDutyKeyProof.selector, key, recovered));
        vm.prank(thief);
        registry.register(key, proof);
    }

    function test_A_proof_for_another_registry_is_refused() public {
        bytes memory proof = _proof(secret, provider, key);
        registry = new ProviderRegistry();
        vm.expectPartialRevert(IProviderRegistry.BadDutyKeyProof.selector);
        vm.prank(provider);
        registry.register(key, proof);
    }

    function test_A_proof_with_high_s_is_refused() public {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(secret, _digest(provider, key));
        bytes memory proof = abi.encodePacked(r, bytes32(ORDER - uint256(s)), v == 27 ? uint8(28) : uint8(27));
        vm.expectRevert(abi.encodeWithSelector(IProviderRegistry.BadDutyKeyProof.selector, key, address(0)));
        vm.prank(provider);
        registry.register(key, proof);
    }

    function testFuzz_Bytes_that_are_no_signature_are_refused(bytes calldata proof) public {
        vm.expectPartialRevert(IProviderRegistry.BadDutyKeyProof.selector);
        vm.prank(provider);
        registry.register(key, proof);
    }

    function testFuzz_Anybody_can_register_with_any_key_it_holds(address who, uint256 signer) public {
        vm.assume(who != address(0));
        signer = bound(signer, 1, ORDER - 1);
        address dutyKey = vm.addr(signer);
        bytes memory proof = _proof(signer, who, dutyKey);
        vm.prank(who);
        registry.register(dutyKey, proof);
        assertEq(registry.dutyKey(who), dutyKey);
        assertEq(registry.providerOfDutyKey(dutyKey), who);
    }

    // -------------------------------------------------------------------------------------------- setDutyKey

    function test_Only_a_provider_changes_its_duty_key() public {
        bytes memory proof = _proof(secret, provider, key);
        vm.expectRevert(abi.encodeWithSelector(IProviderRegistry.UnknownProvider.selector, provider));
        vm.prank(provider);
        registry.setDutyKey(key, proof);
    }

    function test_An_old_duty_key_never_comes_back() public {
        _register();
        (address second, uint256 secondSecret) = makeAddrAndKey("second");
        skip(1);
        bytes memory proof = _proof(secondSecret, provider, second);
        vm.prank(provider);
        registry.setDutyKey(second, proof);
        skip(1);
        proof = _proof(secret, provider, key);
        vm.expectRevert(abi.encodeWithSelector(IProviderRegistry.DutyKeyTaken.selector, key, provider));
        vm.prank(provider);
        registry.setDutyKey(key, proof);
    }

    function test_A_second_change_in_one_block_would_erase_history_and_is_refused() public {
        _register();
        (address second, uint256 secondSecret) = makeAddrAndKey("second");
        bytes memory proof = _proof(secondSecret, provider, second);
        vm.expectRevert(
            abi.encodeWithSelector(
                IProviderRegistry.DutyKeyJustChanged.selector, provider, uint48(block.timestamp)
            )
        );
        vm.prank(provider);
        registry.setDutyKey(second, proof);
    }

    function test_A_change_needs_the_new_key() public {
        _register();
        skip(1);
        address second = makeAddr("second");
        bytes memory proof = _proof(secret, provider, second);
        vm.expectRevert(abi.encodeWithSelector(IProviderRegistry.BadDutyKeyProof.selector, second, key));
        vm.prank(provider);
        registry.setDutyKey(second, proof);
    }

    function testFuzz_The_history_answers_for_every_moment(uint8 changes, uint32[8] memory pauses) public {
        changes = uint8(bound(changes, 0, 8));
        uint48 start = uint48(block.timestamp);
        address[] memory keys = new address[](uint256(changes) + 1);
        uint48[] memory times = new uint48[](uint256(changes) + 1);
        _register();
        (keys[0], times[0]) = (key, start);
        for (uint256 i = 1; i <= changes; ++i) {
            skip(bound(pauses[i - 1], 1, 365 days));
            uint256 signer = uint256(keccak256(abi.encode("duty key", i))) % ORDER;
            (keys[i], times[i]) = (vm.addr(signer), uint48(block.timestamp));
            bytes memory proof = _proof(signer, provider, keys[i]);
            vm.expectEmit(address(registry));
            emit IProviderRegistry.DutyKeyChanged(provider, keys[i], times[i]);
            vm.prank(provider);
            registry.setDutyKey(keys[i], proof);
        }

        assertEq(registry.dutyKeyCount(provider), keys.length);
        assertEq(registry.dutyKey(provider), keys[keys.length - 1]);
        assertEq(registry.dutyKeyAt(provider, start - 1), address(0));
        for (uint256 i; i < keys.length; ++i) {
            (address entry, uint48 since) = registry.dutyKeyEntry(provider, i);
            assertEq(entry, keys[i]);
            assertEq(since, times[i]);
            assertEq(registry.dutyKeyAt(provider, since), entry);
            assertEq(registry.dutyKeyAt(provider, since - 1), i == 0 ? address(0) : keys[i - 1]);
            assertEq(registry.providerOfDutyKey(entry), provider);
        }
        vm.expectRevert(
            abi.encodeWithSelector(IProviderRegistry.NoDutyKeyAt.selector, provider, keys.length, keys.length)
        );
        registry.dutyKeyEntry(provider, keys.length);
    }

    // --------------------------------------------------------------------------------------------- reading

    function test_The_domain_is_Stkr_1_on_this_chain() public view {
        assertEq(
            keccak256(
                abi.encodePacked(
                    hex"1901",
                    registry.domainSeparator(),
                    keccak256(
                        abi.encode(keccak256("DutyKeyProof(address provider,address dutyKey)"), provider, key)
                    )
                )
            ),
            _digest(provider, key)
        );
        (, string memory name, string memory version, uint256 chainId, address verifying,,) =
            registry.eip712Domain();
        assertEq(name, "Stkr");
        assertEq(version, "1");
        assertEq(chainId, block.chainid);
        assertEq(verifying, address(registry));
    }

    function testFuzz_Nobody_is_a_provider_before_it_registers(address who, uint48 time) public view {
        assertFalse(registry.isProvider(who));
        assertEq(registry.dutyKey(who), address(0));
        assertEq(registry.dutyKeyAt(who, time), address(0));
        assertEq(registry.dutyKeyCount(who), 0);
        assertEq(registry.providerOfDutyKey(who), address(0));
    }
}
