// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity 0.8.37;

import {Vm} from "forge-std/Vm.sol";

import {IPoolVault} from "../../../contracts/interfaces/IPoolVault.sol";
import {Genesis} from "../utils/Genesis.sol";
import {Reenterer, Stubborn} from "./Actors.sol";
import {PoolFixture} from "./PoolFixture.sol";

contract PoolVaultTest is PoolFixture {
    IPoolVault internal vault;
    uint256 internal id;
    bytes internal pubkey =
        hex"8b0d9d25b4cdb8e3f2f0d9e8a6a4ba5f52a5d0e5c7b3a0c1d2e3f405162738495a6b7c8d9eafb0c1d2e3f4051627aabb";

    function setUp() public override {
        super.setUp();
        (id,) = _keyReady();
        vault = IPoolVault(pools.vaultOf(id));
        deal(address(vault), 10 ether);
    }

    function test_The_vault_knows_its_pool_and_its_master() public view {
        assertEq(vault.poolId(), id);
        assertEq(vault.MICROPOOLS(), address(pools));
    }

    function testFuzz_The_vault_pays_only_on_order_of_its_pools_contract(address caller, uint96 amount)
        public
    {
        vm.assume(caller != address(pools));
        vm.expectRevert(abi.encodeWithSelector(IPoolVault.NotMicropools.selector, caller));
        vm.prank(caller);
        vault.pay(payable(caller), amount);
    }

    function testFuzz_The_vault_pays(uint96 amount) public {
        amount = uint96(bound(amount, 0, 10 ether));
        address payable to = payable(makeAddr("to"));
        vm.expectEmit(address(vault));
        emit IPoolVault.Paid(to, amount);
        vm.prank(address(pools));
        vault.pay(to, amount);
        assertEq(to.balance, amount);
        assertEq(address(vault).balance, 10 ether - amount);
    }

    function test_A_payment_that_is_not_taken_or_not_covered_fails_whole() public {
        address payable stubborn = payable(address(new Stubborn()));
        vm.expectRevert(abi.encodeWithSelector(IPoolVault.TransferFailed.selector, stubborn, 1 ether));
        vm.prank(address(pools));
        vault.pay(stubborn, 1 ether);
        address payable to = payable(makeAddr("to"));
        vm.expectRevert(abi.encodeWithSelector(IPoolVault.TransferFailed.selector, to, 11 ether));
        vm.prank(address(pools));
        vault.pay(to, 11 ether);
    }

    function test_A_receiver_that_calls_back_is_refused_as_anybody_else() public {
        Reenterer attacker = new Reenterer();
        attacker.arm(address(vault), abi.encodeCall(IPoolVault.pay, (payable(address(attacker)), 1 ether)));
        vm.prank(address(pools));
        vault.pay(payable(address(attacker)), 1 ether);
        assertEq(attacker.attempts(), 1);
        assertEq(attacker.successes(), 0);
        assertEq(bytes4(attacker.answer()), IPoolVault.NotMicropools.selector);
        assertEq(address(attacker).balance, 1 ether);
    }

    function test_The_vault_takes_no_ether_by_a_plain_call() public {
        deal(address(this), 1 ether);
        (bool success,) = address(vault).call{value: 1}("");
        assertFalse(success);
    }

    // ------------------------------------------------------------------------------------------- EIP-7002

    function _fee() internal view returns (uint256) {
        (, bytes memory fee) = Genesis.WITHDRAWAL_REQUESTS.staticcall("");
        return abi.decode(fee, (uint256));
    }

    function testFuzz_A_withdrawal_request_reaches_the_official_contract(uint64 amountGwei) public {
        uint256 fee = _fee();
        assertGt(fee, 0);
        deal(address(pools), fee);
        vm.expectEmit(address(vault));
        emit IPoolVault.WithdrawalRequested(pubkey, amountGwei);
        vm.prank(address(pools));
        vault.requestWithdrawal{value: fee}(pubkey, amountGwei);

        // What the consensus layer reads at the end of the block: source, public key, amount least byte first.
        vm.prank(Genesis.SYSTEM);
        (bool success, bytes memory requests) = Genesis.WITHDRAWAL_REQUESTS.call("");
        assertTrue(success);
        bytes8 swapped;
        for (uint256 i; i < 8; ++i) {
            swapped |= bytes8(bytes1(uint8(amountGwei >> (8 * i)))) >> (8 * i);
        }
        assertEq(requests, abi.encodePacked(address(vault), pubkey, swapped));
        assertEq(address(vault).balance, 10 ether);
    }

    function test_A_fee_that_is_too_low_is_refused() public {
        vm.expectRevert(
            abi.encodeWithSelector(IPoolVault.WithdrawalRequestRefused.selector, pubkey, uint64(0), 0)
        );
        vm.prank(address(pools));
        vault.requestWithdrawal(pubkey, 0);
    }

    /// A call to an account without code succeeds: the request would be lost in silence.
    function test_A_chain_without_the_official_contract_is_refused() public {
        vm.etch(Genesis.WITHDRAWAL_REQUESTS, "");
        deal(address(pools), 1);
        vm.expectRevert(
            abi.encodeWithSelector(IPoolVault.WithdrawalRequestRefused.selector, pubkey, uint64(0), 1)
        );
        vm.prank(address(pools));
        vault.requestWithdrawal{value: 1}(pubkey, 0);
    }

    function testFuzz_A_public_key_has_48_bytes(bytes calldata wrong) public {
        vm.assume(wrong.length != 48);
        vm.expectRevert(abi.encodeWithSelector(IPoolVault.BadPubkey.selector, wrong.length));
        vm.prank(address(pools));
        vault.requestWithdrawal(wrong, 0);
    }

    function testFuzz_Only_the_pools_contract_asks_for_withdrawals(address caller) public {
        vm.assume(caller != address(pools));
        vm.expectRevert(abi.encodeWithSelector(IPoolVault.NotMicropools.selector, caller));
        vm.prank(caller);
        vault.requestWithdrawal(pubkey, 0);
    }
}
